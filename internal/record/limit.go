package record

// Limit bounds what is read of a metadata file, in bytes. Names and
// descriptions have at most 64 KiB each, so no record of ours comes near.
const Limit = 1 << 20
