"""What `make` runs: set-up, checks and the demo. No part of the distribution."""
