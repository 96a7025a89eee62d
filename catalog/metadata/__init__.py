"""What sources say of samples beside their content: names with values of JSON, and how SQL sees them."""
