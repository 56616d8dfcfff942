"""What stands at the top of a report, made from its rows: the summary in words, the circuit's paths, the filters."""
