"""What a dataset is: columns, templates, samplers and their graph. Pure, no I/O."""
