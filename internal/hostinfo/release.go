package hostinfo

// Release is the version of this program, as its door tells it here: hosts that share an SR should have the same.
var Release string
