"""What a gamma camera makes of a patient: activity and attenuation in slabs, projections, faults, counts."""
