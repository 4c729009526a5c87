class BadRequestError(ValueError):
    pass
