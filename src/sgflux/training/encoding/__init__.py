"""From the files of a run to the tensors that the model reads."""
