"""The operations, one module a noun: each reads its call, calls one service function and answers."""
