"""Node labels made from what is known of the devices."""
