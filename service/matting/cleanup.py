def clean_alpha(alpha, **options):
    return alpha
