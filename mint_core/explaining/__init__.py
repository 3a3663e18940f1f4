"""Why a student answers so: the effect of each phrase of a text or region of an image on a label's probability."""
