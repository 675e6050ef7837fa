"""From edited pictures to tables of scores, every network run once on each picture."""
