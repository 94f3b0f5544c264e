package plan

// DescSize is the size of a page descriptor (struct page_desc), everywhere.
const DescSize = 24

// Pages locates the parts of a compressed dump that a stream must count and
// mend as they pass: only the bitmap tells how many page descriptors there are.
type Pages struct {
	Bitmaps int64  // where the bitmaps begin
	Bitmap  int64  // that of the pages in the dump
	End     uint64 // the PFN after the last whose bit in it counts
	Descs   int64  // where the page descriptors begin

	// Count returns how many pages of the dump b has, a part of the bitmap
	// whose first bit is that of PFN first.
	Count func(b []byte, first uint64) uint64
	// Mend updates one page descriptor for a shift of everything after the
	// notes.
	Mend func(b []byte, shift int64)
}
