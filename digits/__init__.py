"""What the scripts share: the network, the data, reading pictures and reporting."""
