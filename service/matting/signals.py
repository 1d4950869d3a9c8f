def measure_confidence(alpha):
    return 1.0


def shows_person(alpha):
    return True
