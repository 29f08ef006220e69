"""Nothing of ours stands below this room: errors, units and the small parts that every other room uses."""
