package cli

// mapLegend explains the map of a page.
const mapLegend = `
64 bytes a row; a capital letter begins a field
G guest  H host  C control  X exit information  U a name that is not known
R revision id  A abort indicator  . no field  ! fields that overlap  * rows without
`
