"""What a user declares: read strictly, checked whole, with every fault named."""
