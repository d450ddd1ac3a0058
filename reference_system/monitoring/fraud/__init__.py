"""What is watched of the fraud model: inputs, outcomes reported so far, champions on the same payments."""
