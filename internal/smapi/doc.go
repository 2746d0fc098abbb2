// Package smapi is the storage interface of the toolstack (SMAPIv3, version 5.0, of
// xapi-project/xen-api, ocaml/xapi-storage), written down once, as data: the calls with their
// arguments and results, the errors, the features, and the types that all of these have in
// JSON.
//
// A request is a struct, one for each call, whose fields are the call's arguments after dbg: a
// misspelt argument does not compile. What the struct answers is part of its type. What stands
// in its tags is read by everybody who needs a table: the plugin for its arguments and its
// help, the testers for the types of answers, the documents (docs/smapi.md).
//
// It makes no call and answers none: package serve is a plugin's end of one, package invoke
// the toolstack's.
package smapi

//go:generate go test -run ^TestPage$ -update .
