"""What tools/bench is made of: measurements of the stack and of its peers by one load, printed and never judged."""
