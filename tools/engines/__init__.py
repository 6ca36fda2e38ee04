"""Workers: processes, on one machine or several, that generate and measure images for one driver."""
