"""Ray and Ray Serve: started closed, deployed to, watched, taken down."""
