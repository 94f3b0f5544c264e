// Package clients holds the tests that put real readers of dumps before the
// cores that vmcsnote has changed: readelf, eu-readelf, crash, makedumpfile,
// drgn and gdb. What is not installed is skipped, unless the environment says
// VMCSNOTE_CLIENTS=required, as CI does.
package clients
