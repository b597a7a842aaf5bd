"""P2P itself: benign trigger, label remap, choice of the benign subset, re-poisoning, manifest."""
