// Package opennebula is how OpenNebula speaks with its storage drivers: how an action of a datastore or transfer driver is called, in each of the
// three ways that releases have, what the XML that comes with it says, how an error is told, and how oned is asked about a guest.
// It knows no storage.
package opennebula
