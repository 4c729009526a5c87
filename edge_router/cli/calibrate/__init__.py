"""What `edge-router calibrate` finds beside the threshold."""
