package plan

// DescSize is the size of a page descriptor (struct page_desc), everywhere.
const DescSize = 24

// Pages is where a compressed dump has what a stream of it must count and mend
// as it passes: how many page descriptors there are only the bitmap tells.
type Pages struct {
	Bitmaps int64  // where the bitmaps begin
	Bitmap  int64  // that of the pages in the dump
	End     uint64 // the PFN after the last whose bit in it counts
	Descs   int64  // where the page descriptors begin

	// Count counts the bits of b that count, of which the first is PFN first's.
	Count func(b []byte, first uint64) uint64
	// Mend mends one page descriptor, if all after the notes shifts.
	Mend func(b []byte, shift int64)
}
