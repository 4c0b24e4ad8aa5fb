//! Plain scalar kernels and their SIMD twins
