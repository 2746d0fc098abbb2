// Package plugin is the toolstack's door: one line of a table per SMAPIv3 call,
// the process around it (argv, standard input and output, exit status, log), and
// the installation of the plugin directories.
package plugin
