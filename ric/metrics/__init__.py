"""Score edited pictures: CLIP-I, DINO, CLIP-T, LPIPS, FID and IS, as their own libraries do."""
