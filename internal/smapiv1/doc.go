// Package smapiv1 is the older of the toolstack's interfaces for storage, as data: what a storage driver is asked, and how it answers. It
// comes in two forms. Today xapi starts a driver with one methodCall of XML-RPC as its argument and reads one methodResponse, whose faults
// have the numbers of XE_SR_ERRORCODES. Formerly the argument was a device configuration in XML, with others behind it; the answer was
// XML or nothing, and the exit status an errno.
//
// It knows no storage.
package smapiv1
