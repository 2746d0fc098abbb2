// Package datastore is what may be wanted of disks in the directories of OpenNebula's datastores, each once: clone, link, snapshot,
// revert, make, resize, move, remove. It runs as the user who owns them, on the host that has them.
//
// A datastore is a directory whose name is its number. Images are files in it, a guest's disks files in a directory of it that has
// the guest's number. The datastore itself may be a link: that is its administrator's business. Below it no link is followed, but for a guest's
// disk that is one to an image, as OpenNebula makes it of a persistent disk.
//
// What is made is staged beside its place under a name of its own, fsynced, and renamed; what a killed action has left staged goes with the
// next one in the directory.
package datastore
