"""The shapes of bodies, queries and answers, one module a noun."""
