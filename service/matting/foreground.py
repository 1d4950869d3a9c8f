def estimate_foreground(image, alpha):
    return image
