// Package hostinfo tells which host this is: the UUID that the toolstack gave it, this boot, and the machine under it,
// by what its firmware and network interfaces say.
package hostinfo
