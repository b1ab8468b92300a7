"""What Helm makes of charts/penstock: refused values, golden renders, rights, and what a real API server says of them.

`rendering` runs the real Helm; six values files (`values/`) stand for ways in which the chart is used, and each rule is
held over all of them. What is rendered is made of random certificates: `golden` puts a word in their place.
"""
