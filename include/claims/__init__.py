"""Claims: which passports their customers own by now."""
