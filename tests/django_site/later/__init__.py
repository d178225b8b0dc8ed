"""A site that has come further: a profile has a country."""
