"""What every engine on this machine shares, whatever the device: template, tokens, scheduling, sampling."""
