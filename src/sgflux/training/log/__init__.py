"""What a run writes about itself: lines, metrics and TensorBoard's file."""
