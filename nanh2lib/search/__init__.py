"""Random symmetric search: templates, placement, push-apart, and the run that ties them together."""
