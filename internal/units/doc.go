// Package units writes sizes for people.
package units
