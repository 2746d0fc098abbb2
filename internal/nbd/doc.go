// Package nbd speaks the NBD protocol, which programs use to read and write somebody else's disk: a Server of one disk,
// for any number of connections, and a Client. It knows no SR: what is served is a Backend, as File is one.
//
// The protocol is fixed newstyle without TLS, as
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md has it. Two peers shaped what is here:
//   - tapdisk, which mirrors a disk of an SMAPIv1 SR into ours (block-nbd.c in https://github.com/xapi-project/blktap): it
//     asks for the export "tapdisk_client" with a NUL at its end, knows no option but that, and sends WRITE and DISC.
//     So any name is the disk's.
//   - a server behind xapi's proxy, which may know nothing but WRITE, and to which only one connection can be made:
//     Options.Plain asks no question that it could take amiss.
//
// Both ends take the other for hostile: what it sends is bounded in length, number and (until it has told what it
// wants) time, and is never believed. NBD_CMD_CACHE is not offered: who copies a disk reads it once.
package nbd
