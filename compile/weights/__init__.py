"""From a checkpoint to an MLC model directory: names, quantizers, calibration, packaging."""
