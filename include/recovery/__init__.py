"""Recovery: what a person does after the warehouse went back in time."""
