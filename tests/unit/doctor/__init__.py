"""The judging of `penstock cluster doctor`: facts in, findings out."""
