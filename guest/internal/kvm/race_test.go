//go:build race

package kvm

// raceDetector makes all memory accesses some ten times as slow.
const raceDetector = true
