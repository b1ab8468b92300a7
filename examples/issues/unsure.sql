SELECT issues.key
FROM issues JOIN results ON results.key = issues.key
WHERE results.processor = 'issue-label' AND results.confidence < 0.7
ORDER BY results.confidence
