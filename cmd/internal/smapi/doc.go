// Package smapi is the wire edge of SMAPIv3: it decodes one request, encodes one
// reply or one error, and knows nothing of storage. Nothing outside it knows what
// a request or an error looks like on the wire.
package smapi
