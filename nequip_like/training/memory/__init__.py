"""What a step needs of memory, told before a training, and what is said when there is too little of it."""
