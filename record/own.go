package record

import "vmcsnote/internal/inputfile"

// ErrForeign says that another user could have written the record. What root
// adds to a dump on its word would be that user's.
var ErrForeign = inputfile.ErrForeign

// ReadOwn is [ReadFile] for a record that nobody named, but that was found at
// its place. It fails with [ErrForeign] if the file or its directory belongs to
// another user than root and the caller, or can be written by one.
func ReadOwn(path string) (Record, error) {
	if err := inputfile.CheckOwn(path); err != nil {
		return Record{}, err
	}
	return ReadFile(path) // in a directory where only root can put another one
}
