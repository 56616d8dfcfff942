"""Single experiments: one prompt, one question, a figure and its numbers with their provenance; no claims, and no pytest.

    import circuit_claims as cc

    model = cc.load("mini")
    cc.logit_lens(model, "Water is made of hydrogen and", " oxygen").crossover_layer
    cc.trace(model, "The capital of France is", " Paris", about="France").save("france")

From the command line: `circuit-claims lens`, `trace`, `patch`, `attention`, `attribute`. What is measured of one prompt has no
interval: it says what happens there, and not what the model does in general. For that, see the tasks (`circuit_claims.tasks`),
whose operations these experiments are made of.
"""
