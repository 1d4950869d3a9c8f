from service.inference.preprocessing import resize_alpha


def refine_alpha(image, alpha):
    return resize_alpha(alpha, *image.shape[:2])
