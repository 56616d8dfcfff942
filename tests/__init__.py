from tests import shape_checks as shape_checks  # jaxtyping looks it up as an attribute of this package
